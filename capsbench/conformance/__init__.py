"""Does a capsule layer do what the paper says?"""
