"""What pyproject.toml cannot say: a wheel holds conf/ as hep2/conf. All else stands there."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hep2*"]), "hep2.conf"],
    package_dir={"hep2.conf": "conf"},
    package_data={
        "hep2": ["py.typed"],
        "hep2.conf": ["**/*.yaml"],
        "hep2.evaluation": ["templates/*.j2"],
        "hep2.data": ["*.yaml"],
    },
)
