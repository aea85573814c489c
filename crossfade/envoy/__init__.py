"""The router: Envoy, driven by one route file in one folder. Implements `ports.Router`."""
