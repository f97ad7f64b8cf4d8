"""Public archives of data: which there are, and how one is downloaded, checked and unpacked."""
