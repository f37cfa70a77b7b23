"""Prefect flows, deployments and the command line. The only room that imports prefect."""
