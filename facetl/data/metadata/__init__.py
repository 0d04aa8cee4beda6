"""The content of a photo's file beside its pixels: size, orientation, date, XMP regions and sidecars."""
