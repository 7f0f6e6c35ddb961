"""Files of data sets as arrays. What is damaged ends in a DataError, soon and in bounded memory."""
