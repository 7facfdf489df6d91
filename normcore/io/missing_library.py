"""The error of a library that is not there, which says how to get it."""

__all__ = ["MissingLibrary"]


class MissingLibrary(ImportError):
    """A library that a file format needs is not installed.

    Parameters
    ----------
    library : str
    purpose : str
        What needs it.
    install : str
        What pip is to install.

    Examples
    --------
    >>> from normcore import io
    >>> isinstance(io.MissingLibrary("h5py", "HDF5 files", "h5py"), ImportError)
    True
    """

    def __init__(self, library: str, purpose: str, install: str = '"normcore-arrays[cli]"') -> None:
        super().__init__(f"{purpose} needs {library}: pip install {install}", name=library)
