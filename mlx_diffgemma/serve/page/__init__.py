"""The page at `/`: a chat and a form with holes, in one file that asks nobody but its server."""
