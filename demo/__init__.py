"""`make demo`: draws images of road signs, trains on them, and runs and scores the model on a drawn camera drive."""

import cnn_perception as cnn_perception  # first: it takes the working directory off `sys.path`
