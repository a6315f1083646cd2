"""Labels the images of a table in the browser, by the keyboard: every decision is on the disk before the next image."""
