"""docflash's own tasks, one TOML file each: copy one into a folder of yours to change it."""
