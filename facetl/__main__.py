"""`python -m facetl` is the same as `facetl`."""

from facetl.cli.app import main

main()
