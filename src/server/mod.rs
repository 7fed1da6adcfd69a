//! The listeners: webhooks for providers, admin for the operator.
