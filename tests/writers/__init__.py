"""Writers of the artefacts' files, from the published structures and from nothing of the readers.

They take register values (:mod:`writers.state`) and give bytes; a test then asks the reader for
the same registers.
"""
