"""Images and video frames from files to patches, as the reference's processor sees them."""
