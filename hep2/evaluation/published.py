"""Published scores on HEp-2 cell classification, each with its data set, protocol and source.

`data` and `protocol` use this project's names where they mean the same thing; other schemes have
names of their own ("contest", "not stated"), so that they never match. A random split of cells and
held-out specimens differ by 10 to 20 points on the same cells: scores of different protocols must
not be shown side by side.
"""

from typing import NamedTuple

import numpy as np

from hep2.data.protocols import BY_POOLS
from hep2.metrics import FloatArray

LEAKY = ("random", "public_split")  # drawn over cells, by the protocols' names of this table
SECOND_HAND = "second-hand: read in a third party's text"
ASSUMED_RANDOM = "a random split by all appearances; the text read does not say"
SPECIMEN_LEVEL = "one call a specimen, not a cell"


class Published(NamedTuple):
    """One published score."""

    method: str
    features: str  # "unsupervised", "supervised", "handcrafted", "pre-trained", "not stated"
    data: str
    protocol: str
    metric: str
    value: float  # per cent
    source: str
    remark: str = ""

    @property
    def marked_protocol(self) -> str:
        """The protocol as tables show it: leaky ones end in `-leaky`."""
        return f"{self.protocol}-leaky" if self.protocol in LEAKY else self.protocol


PAPER = "Vununu et al., DCAE + MLP"
PAPER_SOURCE = "Vununu et al., Cell Images Classification using DCAE of Unsupervised Learning"
# What a model that is handed on asks to cite. The paper has no DOI; the article has.
CITATION = {
    "text": f"{PAPER_SOURCE}; by the same group, with the same autoencoder: Vununu, Lee and Kwon, "
    "A Strictly Unsupervised Deep Learning Method for HEp-2 Cell Image Classification, Sensors 20 "
    "(2020) 2717",
    "doi": "10.3390/s20092717",
}
PAPER_TOTAL_ACCURACY = 88.08  # its section 3: "The total accuracy reached by the network"
# Its Fig. 1: per cent of each target class (column) that was given each output class (row), in the
# order of `hep2.data.sources.PAPER_CLASSES`.
PAPER_CONFUSION: FloatArray = np.array([
    [91.07, 0.53, 9.97, 0.00, 0.00],
    [0.46, 88.27, 0.00, 5.77, 6.54],
    [6.11, 2.24, 86.42, 0.00, 0.10],
    [1.38, 3.79, 0.94, 85.09, 0.17],
    [0.98, 5.17, 2.67, 9.14, 93.19],
])  # fmt: skip
PAPER_MEAN_RECALL = float(np.diagonal(PAPER_CONFUSION).mean())  # its MCA, were the counts whole
PAPER_STATEMENT = (  # its two scores do not agree
    f"The paper (SNPHEp-2, real cells) prints two scores: its text says a total accuracy of "
    f"{PAPER_TOTAL_ACCURACY:.2f} %, the diagonal of its Fig. 1 has a mean recall of "
    f"{PAPER_MEAN_RECALL:.2f} %. An overall accuracy weighs the classes by their cells and may "
    "differ from the mean recall, but the paper gives no counts to check it by; both are shown."
)

_RAHMAN = "Rahman et al., Med. Image Anal. 65 (2020), arXiv 1911.08916, table 3"
_ZHAO = "github.com/KaikaiZhao/HEp-2_cell_classification"
_XIE = "Xie et al. 2023, pmc.ncbi.nlm.nih.gov/articles/PMC9931452"
_DCRNET = "Shen, Jia and Li 2018, www.scholarmate.com/S/KFqtV8 (abstract)"
_LEI = "Lei et al. 2017, acemap.info/paper/168466141 (abstract)"
_DSRN = "Lei et al., Deeply supervised residual network (abstract, conference version)"
_ANAAM = "Anaam et al. 2022, m.booksci.cn/literature/127907689.htm (abstract)"
_GAO = "Gao et al., arXiv 1504.02531"
_FARAKI = "Faraki, Harandi, Wiliem and Lovell, Pattern Recognition 47 (2014) 2348"
_MANIVANNAN = "Manivannan et al., Pattern Recognition 51 (2016) 12 (abstract)"
_HOBSON = "Hobson et al. 2015, www.pubmed.gov/26303104"
_LI = "Li et al., arXiv 1604.05816"
_RODRIGUES_17 = "Rodrigues et al., SIBGRAPI 2017, peeref.com/works/45408954 (abstract)"
_RODRIGUES_20 = "Rodrigues et al. 2020, www.aimedicalcompendium.com/article.cfm?id=34647"

ROWS: tuple[Published, ...] = (
    Published(PAPER, "unsupervised", "snphep2", "published", "total accuracy",
              PAPER_TOTAL_ACCURACY, PAPER_SOURCE, "the text, section 3"),
    Published(PAPER, "unsupervised", "snphep2", "published", "mean recall",
              round(PAPER_MEAN_RECALL, 2), PAPER_SOURCE, "computed from its Fig. 1"),
    # SNPHEp-2, its five official splits, none of which shares a specimen.
    Published("Wiliem et al., codebook + NCH", "unsupervised", "snphep2", "published", "ACA", 80.6,
              _FARAKI, "table 3; told each image's quality in advance"),
    Published("Fisher tensors", "handcrafted", "snphep2", "published", "ACA", 74.7, _FARAKI,
              "table 3; 16 words"),
    Published("Riemannian words", "handcrafted", "snphep2", "published", "ACA", 67.6, _FARAKI,
              "table 3; 1,024 words"),
    Published("Strandmark et al.", "handcrafted", "snphep2", "published", "ACA", 56.8, _FARAKI,
              "table 3"),
    Published("Cordelli and Soda", "handcrafted", "snphep2", "published", "ACA", 42.6, _FARAKI,
              "table 3"),
    # Whole specimens of I3A Task 1 held out.
    Published("Li et al., CNN", "supervised", "i3a", "loso", "recall of Golgi", 70.0, _LI,
              SECOND_HAND),
    Published("Li et al., CNN", "supervised", "i3a", "loso", "recall of nuclear membrane", 86.87,
              _LI, SECOND_HAND),
    Published("Li 2016, modified LeNet-5", "supervised", "i3a", "loso, specimen calls", "MCA",
              83.55, _RAHMAN, SPECIMEN_LEVEL),
    Published("Li 2016, LeNet-5 + histogram + SVM", "supervised", "i3a", "loso, specimen calls",
              "MCA", 85.62, _RAHMAN, SPECIMEN_LEVEL),
    Published("Cascio 2019, AlexNet + SVM", "pre-trained", "i3a", "loso, specimen calls", "MCA",
              93.75, _RAHMAN, SPECIMEN_LEVEL),
    Published("DCR-Net (winner, ICPR 2016)", "supervised", "i3a", "contest or specimens", "MCA",
              85.1, _DCRNET, "the abstract compares it with contest results"),
    Published("Bayramoglu et al. 2015, CNN", "supervised", "i3a", "not stated", "accuracy", 80.25,
              "BIBE 2015, doi 10.1109/BIBE.2015.7367705 (abstract)",
              "the abstract says 'a benchmark dataset'"),
    Published("ICIP 2013 contest, best of 14", "not stated", "i3a", "contest", "accuracy", 83.65,
              _HOBSON, "54,833 private test cells"),
    Published("ICIP 2013 contest, fusion of the best 7", "not stated", "i3a", "contest",
              "accuracy", 85.60, _HOBSON, "54,833 private test cells"),
    Published("Manivannan et al., sparse codes + SVMs", "unsupervised", "i3a", "contest", "MCA",
              87.1, _MANIVANNAN, "private test set, trained on all 83 specimens"),
    Published("Manivannan et al., sparse codes + SVMs", "unsupervised", "i3a",
              "contest, specimen calls", "MCA", 88.5, _MANIVANNAN, SPECIMEN_LEVEL),
    Published("Theodorakopoulos 2014", "handcrafted", "i3a", "contest", "accuracy", 83.33, _ZHAO,
              SECOND_HAND),
    Published("Paisitkriangkrai 2014", "handcrafted", "i3a", "contest", "accuracy", 81.55, _ZHAO,
              SECOND_HAND),
    # Cells of one specimen on both sides.
    Published("Gao et al., CNN", "supervised", "i3a", "public_split", "MCA", 88.58, _GAO,
              SECOND_HAND),
    Published("Gao et al., CNN", "supervised", "i3a", "public_split", "ACA", 89.04, _GAO,
              SECOND_HAND),
    Published("Gao et al., CNN + rotations", "supervised", "i3a", "public_split", "MCA", 96.76,
              _GAO, f"{SECOND_HAND}; the abstract says 96.7"),
    Published("Gao et al., CNN + rotations", "supervised", "i3a", "public_split", "ACA", 97.24,
              _GAO, SECOND_HAND),
    Published("AlexNet, fine-tuned", "pre-trained", "i3a", "public_split", "accuracy", 92.0,
              "github.com/george-chou/HEp-2_cell_classification"),
    Published("AlexNet, frozen + MLP", "pre-trained", "i3a", "public_split", "accuracy", 80.29,
              "a student report (ELEC5622, 2025)"),
    Published("VGG16, fine-tuned + SVM", "pre-trained", "i3a", "random", "accuracy", 98.0, _ZHAO,
              "one split, 10,877 + 2,719 cells"),
    Published("GoogLeNet", "supervised", "i3a", "random", "accuracy", 98.17, _RODRIGUES_17,
              "the abstract does not name the data set"),
    Published("Inception-V3 + augmentation", "supervised", "i3a", "random", "accuracy", 98.28,
              _RODRIGUES_20, "five-fold cross-validation"),
    Published("ResNet-50, cross-modal", "pre-trained", "i3a", "not stated", "MCA", 96.87, _LEI,
              ASSUMED_RANDOM),
    Published("DSRN", "supervised", "i3a", "not stated", "average accuracy", 95.88, _DSRN,
              ASSUMED_RANDOM),
    Published("Anaam et al., ensemble + GAN", "supervised", "i3a", "not stated", "ACA", 98.82,
              _ANAAM, ASSUMED_RANDOM),
    Published("Anaam et al., ensemble + GAN", "supervised", "i3a", "not stated", "MCA", 98.91,
              _ANAAM, ASSUMED_RANDOM),
    Published("Xie et al., SIFT + RIC-LBP", "handcrafted", "i3a", "not stated", "accuracy", 96.35,
              _XIE, ASSUMED_RANDOM),
    Published("Xie et al., InceptionResNetV2", "supervised", "i3a", "not stated", "accuracy",
              98.36, _XIE, ASSUMED_RANDOM),
    # ICPR 2012: 1,455 cells.
    Published("DCR-Net", "supervised", "icpr2012", "contest", "average class accuracy", 80.8,
              _DCRNET),
    Published("Gao Zhimin 2016", "supervised", "icpr2012", "contest", "accuracy", 74.8, _ZHAO,
              SECOND_HAND),
    Published("Shen 2014", "not stated", "icpr2012", "contest", "accuracy", 74.4, _ZHAO,
              SECOND_HAND),
    Published("Larsen 2014", "not stated", "icpr2012", "contest", "accuracy", 71.5, _ZHAO,
              SECOND_HAND),
    Published("contest winner", "not stated", "icpr2012", "contest", "accuracy", 68.7, _ZHAO,
              SECOND_HAND),
    Published("ResNet-50, cross-modal", "pre-trained", "icpr2012", "not stated",
              "average class accuracy", 95.63, _LEI, ASSUMED_RANDOM),
    Published("DSRN", "supervised", "icpr2012", "not stated", "average accuracy", 93.46, _DSRN,
              ASSUMED_RANDOM),
    Published("Fisher tensors", "handcrafted", "icpr2012", "contest", "accuracy", 70.2, _FARAKI,
              "table 1; whole images 78.6"),
    Published("Fisher tensors", "handcrafted", "icpr2012", "loso", "accuracy", 71.7, _FARAKI,
              "table 1; whole images 75.0"),
    Published("Riemannian words", "handcrafted", "icpr2012", "contest", "accuracy", 68.1, _FARAKI,
              "table 1; whole images 71.4"),
    Published("Wiliem et al., codebook + NCH", "handcrafted", "icpr2012", "contest", "accuracy",
              55.3, _FARAKI, "table 1"),
    Published("Fisher tensors", "handcrafted", "icpr2012", "random", "accuracy", 79.66,
              "github.com/lorecioni/HEp-2-CellsClassification", "ten-fold over cells"),
)  # fmt: skip


def published_for(data: str, protocol: str) -> list[Published]:
    """Published scores of this very data set and protocol, comparable with ours."""
    return [row for row in ROWS if place(row.data, row.protocol) == place(data, protocol)]


def place(data: str, protocol: str) -> tuple[str, str]:
    """Where scores can be compared; the split that the data bring has two names."""
    return data, BY_POOLS[0] if protocol in BY_POOLS else protocol
