"""A training loop of one's own: trains the network of plain_cnn.py and saves its weights.

python examples/trained_elsewhere.py NET.pt
"""

import sys

import torch
from plain_cnn import Net
from torch.nn.functional import cross_entropy

import capsbench

EPOCHS = 3

digits = capsbench.stream("padded", split="train", size=28, shift=2)
batches = capsbench.BatchDataset(digits, batch_size=32, shuffle=True)
torch.manual_seed(0)
network = Net()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

for epoch in range(EPOCHS):
    batches.set_epoch(epoch)
    for batch in batches:  # images [n, 1, 28, 28] in 0..1, labels [n]
        loss = cross_entropy(network(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

torch.save(network.state_dict(), sys.argv[1])
