"""Datasets, samplers and the DataLoader."""

from scalargrad.utils.data.collate import default_collate, default_convert
from scalargrad.utils.data.dataloader import DataLoader
from scalargrad.utils.data.dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from scalargrad.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "default_collate",
    "default_convert",
    "random_split",
]
