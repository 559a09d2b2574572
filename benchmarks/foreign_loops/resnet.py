"""A residual network for small pictures, trained from a DataLoader with SGD and momentum; batch norm has buffers to send."""

import argparse
import os

import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.utils.data import DataLoader, TensorDataset


def conv3x3(planes_in: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, planes_in: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(planes_in, planes, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or planes_in != planes:
            self.downsample = nn.Sequential(nn.Conv2d(planes_in, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.downsample(x)
        return torch.relu_(out)


def resnet18(num_classes: int = 100) -> nn.Module:
    layers: list[nn.Module] = [conv3x3(3, 64, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    planes_in = 64
    for planes, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(planes_in, planes, stride), BasicBlock(planes, planes, 1)]
        planes_in = planes
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


def main(mode: str) -> None:
    torch.set_num_threads(1)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        distributed.init_process_group("gloo")
    images = TensorDataset(torch.rand(512, 3, 32, 32), torch.randint(100, (512,)))
    loader = DataLoader(images, batch_size=8, shuffle=True, drop_last=True)
    net = resnet18()
    train_net: nn.Module = net
    if ranks > 1:
        cap = 5 if mode == "cap5" else 25
        train_net = nn.parallel.DistributedDataParallel(net, bucket_cap_mb=cap, static_graph=mode == "static")
        if mode == "fp16":
            train_net.register_comm_hook(None, default_hooks.fp16_compress_hook)
    criterion, sgd = nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    count = 0
    while True:
        for inputs, targets in loader:
            count += 1
            if mode == "accumulate" and count % 2 == 1:
                if isinstance(train_net, nn.parallel.DistributedDataParallel):
                    with train_net.no_sync():
                        criterion(train_net(inputs), targets).backward()
                else:
                    criterion(train_net(inputs), targets).backward()
                continue
            criterion(train_net(inputs), targets).backward()
            sgd.step()
            sgd.zero_grad()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mode", default="plain")
    main(arguments.parse_args().mode)
