# The cluster under `make demo` and the tests: your own (KUBECONFIG with CLUSTER=current), kind, or our own launcher.
# The launcher needs only `cryptography` and `pyyaml`, so the small environment will do. NAME names the cluster.
NAME ?= modelyard
LOCALCLUSTER = PYTHONPATH=hack $(LIGHT)/bin/python -m localcluster

.PHONY: cluster-up
cluster-up: $(LIGHT)/bin/python ## Bring a Kubernetes cluster up and print its kubeconfig
	@$(LOCALCLUSTER) ensure --name $(NAME)

.PHONY: cluster-down
cluster-down: $(LIGHT)/bin/python ## Take the cluster down; leaves no process, mount, link or route (PURGE=1: no images either)
	@$(LOCALCLUSTER) down --name $(NAME) $(if $(PURGE),--purge)

.PHONY: cluster-status
cluster-status: $(LIGHT)/bin/python ## Say what runs, on which ports, and what the caches hold
	@$(LOCALCLUSTER) status

.PHONY: images
images: $(LIGHT)/bin/python ## Build the operator's and the trainer's image (tag dev) into the cluster
	@$(LOCALCLUSTER) ensure --name $(NAME) >/dev/null
	@$(LOCALCLUSTER) build-image --name $(NAME) --tag localhost/modelyard:dev --file Dockerfile --context .
	@$(LOCALCLUSTER) build-image --name $(NAME) --tag localhost/modelyard-trainer:dev --file Dockerfile.trainer --context .
