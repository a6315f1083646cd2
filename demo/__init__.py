"""`make demo`: draws images of road signs, trains on them, and runs and scores the model on a drawn camera drive."""
