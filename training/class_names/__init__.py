"""Names of classes as files hold them: lists of the user, and what the file of a network carries itself."""
