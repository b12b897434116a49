"""Other people's data as files of ours."""
