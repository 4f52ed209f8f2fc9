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
images: $(LIGHT)/bin/python ## Build the operator's, the trainer's and the demo hub's image into the cluster
	@$(LIGHT)/bin/python -m deploy images

.PHONY: install
install: $(LIGHT)/bin/python ## Build what has changed and upgrade Modelyard in the cluster
	@$(LIGHT)/bin/python -m deploy install
