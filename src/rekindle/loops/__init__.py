"""What several papers' algorithms share, and no formula of credit."""
