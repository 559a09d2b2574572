"""ImageNet training of a residual network on made-up images: loaders, meters, validation and a checkpoint after each epoch."""

import argparse
import os
import time

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.optim
import torch.utils.data
from torch.optim.lr_scheduler import StepLR
from torch.utils.data.distributed import DistributedSampler

parser = argparse.ArgumentParser(description="PyTorch ImageNet Training")
parser.add_argument("-j", "--workers", default=1, type=int)
parser.add_argument("--epochs", default=90, type=int)
parser.add_argument("-b", "--batch-size", default=8, type=int)
parser.add_argument("--lr", default=0.1, type=float)
parser.add_argument("--images", default=240, type=int, help="images of an epoch, on each rank")
parser.add_argument("--size", default=64, type=int)
parser.add_argument("--checkpoint", default="checkpoint.pth.tar")


class FakeData(torch.utils.data.Dataset):
    def __init__(self, size, shape, classes):
        self.size, self.shape, self.classes = size, shape, classes

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(self.shape, generator=generator), index % self.classes


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        out = planes * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != out:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + identity)


class ResNet(nn.Module):
    def __init__(self, layers, num_classes=1000, width=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        blocks, inplanes = [], width
        for number, repeats in enumerate(layers):
            planes = width * 2**number
            for repeat in range(repeats):
                blocks.append(Bottleneck(inplanes, planes, 2 if number > 0 and repeat == 0 else 1))
                inplanes = planes * Bottleneck.expansion
        self.layers = nn.Sequential(*blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(inplanes, num_classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, value, n=1):
        self.sum, self.count = self.sum + value * n, self.count + n

    def __str__(self):
        return f"{self.name} {self.sum / max(1, self.count):.3f}"


def main():
    args = parser.parse_args()
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        dist.init_process_group("gloo")
    ranks = dist.get_world_size() if distributed else 1
    shape = (3, args.size, args.size)
    train_dataset, val_dataset = FakeData(args.images * ranks, shape, 1000), FakeData(32, shape, 1000)
    model = ResNet([1, 2, 2, 1])
    if distributed:
        model = torch.nn.parallel.DistributedDataParallel(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=30, gamma=0.1)
    train_sampler = DistributedSampler(train_dataset) if distributed else None
    train_loader = torch.utils.data.DataLoader(
        train_dataset, args.batch_size, shuffle=train_sampler is None, num_workers=args.workers, sampler=train_sampler
    )
    val_loader = torch.utils.data.DataLoader(val_dataset, args.batch_size)
    for epoch in range(args.epochs):
        if distributed:
            train_sampler.set_epoch(epoch)
        train(train_loader, model, criterion, optimizer, epoch)
        validate(val_loader, model, criterion)
        scheduler.step()
        if not distributed or dist.get_rank() == 0:
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict()}, args.checkpoint)


def train(train_loader, model, criterion, optimizer, epoch):
    batch_time, losses = AverageMeter("Time"), AverageMeter("Loss")
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
        if i % 10 == 0:
            print(f"Epoch [{epoch}][{i}/{len(train_loader)}] {batch_time} {losses}")


def validate(val_loader, model, criterion):
    losses = AverageMeter("Loss")
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            losses.update(criterion(model(images), target).item(), images.size(0))
    print(f" * {losses}")


if __name__ == "__main__":
    main()
