// What the page asks its server for, and what becomes of a decision that the server cannot keep.

const AGAIN_MS = 1000;
const ENDED = "the program does not answer; if it has ended, start it again and open the address that it prints";

/** What the person can mend: an answer that is none. */
export class Refused extends Error {}

/** What may go away by itself, or by somebody's doing: a full disk, a program that has ended. */
export class NotKept extends Error {}

async function ask(path, body) {
  const wanted = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, wanted);
  } catch {
    throw new NotKept(ENDED);
  }
  if (answer.ok) return answer.json();
  const why = (await answer.text()).trim();
  throw answer.status === 422 ? new Refused(why) : new NotKept(why.slice(0, 600));
}

export const setting = () => ask("/setting");
export const state = (after) => ask(`/state?after=${after}`);

/** Sends a decision until it is kept; `onTrouble` is told of every try that failed. */
export async function keep(path, after, body, onTrouble) {
  for (;;) {
    try {
      return await ask(`${path}?after=${after}`, body);
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      onTrouble(error.message);
    }
    await new Promise((go) => setTimeout(go, AGAIN_MS));
  }
}

/** Returns why a picture is not shown. */
export async function trouble(address) {
  try {
    const answer = await fetch(address);
    return answer.ok ? "the browser cannot show it" : (await answer.text()).trim();
  } catch {
    return ENDED;
  }
}
