"""Training of the policy: from nothing, by imitation, by preference. Only config is light."""
