"""Folder of the rows of a click log that a job rejected."""

#: In an output folder. Spark readers skip names that begin with an underscore.
REJECTED = "_rejected"
