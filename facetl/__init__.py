"""facetl: transfer learning for faces, from folders of photos to a measured embedding model.

Importing this package imports no TensorFlow; each subpackage brings what it needs.
"""

__version__ = "0.1.0"
