"""Where the files of each data set come from, and how one sees that they are what their publisher gave out.

Digests are SHA-256 of the publishers' files; those of CIFAR-10 are known from others, its archive's from TensorFlow
Datasets, its batches' from Apache MXNet, as SHA-1. The addresses could not be tried where this was written, and the
archives of FSDD and the hippocampus have no digest here; what is unpacked from them has.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file of a data set: its name, size in bytes, digest (SHA-256, or SHA-1 if it has 40 digits), and address."""

    name: str
    size: int
    digest: str
    address: str = ""


@dataclass(frozen=True)
class Group:
    """Many files, whose names match a pattern in full.

    Attributes:
        folders: those in the data set's folder that hold the files.
        pattern: a regular expression of folder/name.
        count, size: how many files, and how many bytes together.
        digest: what `sha256sum FOLDER/* | sha256sum` gives, the names in the order of their bytes.
    """

    folders: tuple[str, ...]
    pattern: str
    count: int
    size: int
    digest: str


@dataclass(frozen=True)
class Archive:
    """A tar archive of all files of a data set, in one folder.

    Attributes:
        name: what the file is called.
        address: where it is published.
        limit: how many bytes all members have at most.
        size, digest: of the archive, if known.
    """

    name: str
    address: str
    limit: int
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set that is published: its name, what it is, its folder, licence, files or group, and archive, if any."""

    name: str
    about: str
    folder: str
    licence: str
    files: tuple[File, ...] = ()
    group: Group | None = None
    archive: Archive | None = None

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum(file.size for file in self.files) + (self.group.size if self.group else 0)

    @property
    def download(self) -> int:
        """How many bytes a download has, if only roughly for an archive of unknown size."""
        return (self.archive.size if self.archive else None) or self.size


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_SPEAKERS = "george|jackson|lucas|nicolas|theo|yweweler"
_BATCH_SIZE = 10_000 * 3_073


def _idx(address: str, digests: dict[str, tuple[int, str]]) -> tuple[File, ...]:
    return tuple(File(name, size, digest, address + name) for name, (size, digest) in digests.items())


SOURCES = (
    Source(
        name="mnist",
        about="70,000 handwritten digits, 28x28",
        folder="mnist",
        licence="CC BY-SA 3.0",
        files=_idx(
            _MNIST,
            {
                "train-images-idx3-ubyte.gz": (
                    9912422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                "train-labels-idx1-ubyte.gz": (
                    28881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                "t10k-images-idx3-ubyte.gz": (
                    1648877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                "t10k-labels-idx1-ubyte.gz": (
                    4542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            },
        ),
    ),
    Source(
        name="fashion_mnist",
        about="70,000 pictures of clothing, 28x28",
        folder="fashion_mnist",
        licence="MIT",
        files=_idx(
            _FASHION,
            {
                "train-images-idx3-ubyte.gz": (
                    26421880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                "train-labels-idx1-ubyte.gz": (
                    29515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
                "t10k-images-idx3-ubyte.gz": (
                    4422102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                "t10k-labels-idx1-ubyte.gz": (
                    5148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            },
        ),
    ),
    Source(
        name="cifar10",
        about="60,000 pictures of animals and vehicles, 32x32 in colours",
        folder="cifar-10-batches-bin",
        licence="none stated; cite A. Krizhevsky, 2009",
        files=(
            File("data_batch_1.bin", _BATCH_SIZE, "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
            File("data_batch_2.bin", _BATCH_SIZE, "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
            File("data_batch_3.bin", _BATCH_SIZE, "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
            File("data_batch_4.bin", _BATCH_SIZE, "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
            File("data_batch_5.bin", _BATCH_SIZE, "26e2849e66a845b7f1e4614ae70f4889ae604628"),
            File("test_batch.bin", _BATCH_SIZE, "67eb016db431130d61cd03c7ad570b013799c88c"),
        ),
        archive=Archive(
            name="cifar-10-binary.tar.gz",
            address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            limit=2 * 10**8,
            size=170052171,
            digest="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    Source(
        name="fsdd",
        about="3,000 spoken digits, 8 kHz (Free Spoken Digit Dataset)",
        folder="fsdd",
        licence="CC BY-SA 4.0",
        group=Group(
            folders=("recordings",),
            pattern=rf"recordings/\d_({_SPEAKERS})_\d+\.wav",
            count=3000,
            size=18961461,
            digest="04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b",
        ),
        archive=Archive(
            name="free-spoken-digit-dataset-1.0.10.tar.gz",
            address="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
            limit=2 * 10**8,
        ),
    ),
    Source(
        name="adrenalmnist3d",
        about="1,584 adrenal glands, 28x28x28 (MedMNIST v2)",
        folder="adrenalmnist3d",
        licence="CC BY 4.0",
        files=(
            File(
                "adrenalmnist3d.npz",
                276833,
                "8ffd78c0f000265deb7cf4ee0b454136fb3170f9839ecaa7bb01adf9f88aa7d1",
                "https://zenodo.org/records/10519652/files/adrenalmnist3d.npz",
            ),
        ),
    ),
    Source(
        name="hippocampus",
        about="260 brain scans with the parts of the hippocampus (Medical Segmentation Decathlon)",
        folder="hippocampus3d",
        licence="CC BY-SA 4.0",
        group=Group(
            folders=("imagesTr", "labelsTr"),
            pattern=r"(imagesTr|labelsTr)/hippocampus_\d+\.nii\.gz",
            count=520,
            size=21128848,
            digest="4e9455ae15680a302806ff3db4470450a45a6fb897bc0052a19835224b153a24",
        ),
        archive=Archive(
            name="Task04_Hippocampus.tar",
            address="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
            limit=2 * 10**8,
        ),
    ),
)
