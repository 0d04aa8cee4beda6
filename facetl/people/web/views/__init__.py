"""The page's views, one module per resource."""
