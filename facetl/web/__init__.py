"""The people page: a local web page on a library, for the user of this machine alone."""
