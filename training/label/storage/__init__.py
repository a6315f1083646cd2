"""What a labelling session keeps on the disk: the table, what can be taken back, and the lock of both."""
