"""Runs that begin by themselves: docflash's lasting Prefect server, its worker, its deployments.

home            where the server is, and the password it asks for
server, worker  what the two processes do; locks: that there is one of each; probe: who answers
processes       starts and ends them; service_files, service_control: has the system do it
deployments     folders and hours, in Prefect; reaping: runs whose process was killed; history
"""
