"""A page in the browser that shows a perception node at work, and changes nothing."""
