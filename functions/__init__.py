"""What runs in containers: images, engines, servers, the web endpoint."""
