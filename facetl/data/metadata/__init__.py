"""What a photo's file holds beside its pixels: size, orientation, date, XMP regions and sidecars."""
