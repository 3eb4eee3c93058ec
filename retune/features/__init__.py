"""Every image and every text is encoded once, ever."""
