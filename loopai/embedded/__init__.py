"""The whole of Loopai as child processes of one: the broker, the ingress and the pools."""
