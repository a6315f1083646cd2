"""What a lifecycle node owes whoever manages it: transitions whose errors are seen, and a sign of life."""
