"""A load generator: requests at their own pace against an engine in this process or a service elsewhere."""
