"""From source digits and a spec to samples and batches. The digits that ship lie here; NOTICE.md has their licence."""
