"""CPU models from YAML: reading, checking, look-up and identification."""

from xsaveschema.catalog.catalog import Catalog, default_catalog, load_model

__all__ = ["Catalog", "default_catalog", "load_model"]
