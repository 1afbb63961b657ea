"""Where users' pictures come from: a folder, WebDataset's tars, any TFDS data set.

A reader is an iterable of `tfsnap.data.readers.entry.Entry` and `Skipped`, in an order that depends
on the pictures' names only. It never holds more than one picture.
"""
