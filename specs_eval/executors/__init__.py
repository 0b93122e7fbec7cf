"""Where engines run: many of them, on the devices of a cluster, behind the one loop of `specs_eval.runner`.

`pool` hands blocks of requests to workers and notices when one is lost, `pool_backend` is the backend that the loop talks
to, `parallel` runs the loop for several checkpoints on tasks at a time, `worker` is what runs on a device,
`placement` decides on GPUs or CPUs and `ray_cluster` starts workers with Ray.
"""
