"""Where frames come from: recordings, folders of images, and what a perception node's recorder left."""
