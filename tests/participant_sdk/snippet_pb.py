"""Stands for the module of generated messages in the snippet of test_public_api."""

from google.protobuf.struct_pb2 import Struct as ReserveStockRequest
from google.protobuf.wrappers_pb2 import StringValue as Reservation

__all__ = ["Reservation", "ReserveStockRequest"]
