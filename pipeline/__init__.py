"""The docflash library: from files to records to published tables. Knows nothing of Prefect."""
