"""What a data set is checked for, a file each: wrong labels, copies, odd images, and what gives the labels away."""
