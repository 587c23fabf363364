"""The raw loop: `python raw.py mlp|resnet|resnet18`."""

import sys

import torch
from marks import mark
from networks import BATCH, EPOCHS, LR, STEPS, examples, network
from torch.nn import functional
from torch.utils.data import DataLoader

name = sys.argv[1]
net = network(name)
optimizer = torch.optim.Adam(net.parameters(), lr=LR)
loader = DataLoader(examples(name, STEPS[name]), BATCH[name], shuffle=True)
mark("start")
for _ in range(EPOCHS[name]):
    for inputs, targets in loader:
        loss = functional.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
mark("end")
