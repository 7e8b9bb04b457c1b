"""Builds the extension: an operator library without Python symbols and a small pybind11 module beside it.

Environment variables:
    FUSED_GAN_CUDA        0 turns the CUDA kernels off
    FORCE_CUDA            1 demands the CUDA kernels, also where no GPU is visible
    TORCH_CUDA_ARCH_LIST  CUDA architectures, default "8.0+PTX;9.0a"
    CUTLASS_PATH          folder with include/cutlass, default that of the package nvidia-cutlass
    FUSED_GAN_SANITIZE    1 builds for AddressSanitizer and UndefinedBehaviourSanitizer (make sanitize)
    MAX_JOBS              compilers that run at the same time
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def find_cuda_home() -> str | None:
    """Return the toolkit's folder.

    torch would take the folder above nvcc, which may be a wrapper script without headers.
    """
    nvcc = shutil.which("nvcc")
    candidates = [
        os.environ.get("CUDA_HOME"),
        os.path.dirname(os.path.dirname(nvcc)) if nvcc else None,
        "/usr/local/cuda",
    ]
    return next((home for home in candidates if home and Path(home, "include", "cuda_runtime_api.h").exists()), None)


if cuda_home := find_cuda_home():
    os.environ["CUDA_HOME"] = cuda_home  # torch.utils.cpp_extension reads it when it is imported
try:
    import pybind11
except ImportError:  # torch's headers contain a copy
    pybind11 = None
try:
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, CppExtension, CUDAExtension
    from torch.utils.cpp_extension import BuildExtension as TorchBuildExtension
except ImportError:  # metadata and source distributions are made without torch; the build says what is missing
    torch, TorchBuildExtension = None, build_ext

ROOT = Path(__file__).parent
TORCH_FLOOR = (2, 11)
DEFAULT_ARCHITECTURES = "8.0+PTX;9.0a"
OPERATORS = "fused_gan.libfused_gan"  # loaded by torch.ops.load_library, linked by fused_gan._C
CXX_WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-pragmas", "-Wno-unused-parameter"]
CXX_FLAGS = ["-O3", "-g0", "-std=c++20", "-fno-math-errno", *CXX_WARNINGS]
if os.environ.get("FUSED_GAN_SANITIZE") == "1":  # -O1 keeps the functions and lines that a report names
    CXX_FLAGS += ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# -DNDEBUG: ptxas serialises wgmma around calls, and asserts are calls.
NVCC_FLAGS = ["-O3", "-std=c++20", "--expt-relaxed-constexpr", "-lineinfo", "-DNDEBUG"]
# Only sm_90a has wgmma. The -U undo torch's macros, which remove conversions of half that CUTLASS uses.
HOPPER_SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / "cuda").glob("wgmma_*.cu"))
HOPPER_FLAGS = [
    "-gencode=arch=compute_90a,code=sm_90a",
    "-diag-suppress=2908",  # a deprecation in CUTLASS's own headers
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
]


def stop(message: str) -> None:
    """End the build with a message that stands out at the end of pip's output."""
    rule = "=" * 100
    sys.exit(f"\n{rule}\nfused_gan: {message}\n{rule}")


def say(message: str) -> None:
    """Print a message on standard error that stands out between the compilers' lines."""
    rule = "*" * 100
    print(f"\n{rule}\nfused_gan: {message}\n{rule}\n", file=sys.stderr)


def check_torch() -> None:
    """End the build, with a remedy, if torch is missing or too old."""
    remedy = (
        "fused_gan is compiled against the torch of your environment, which pip's build isolation hides. Do this:\n"
        f"    pip install 'torch>={TORCH_FLOOR[0]}.{TORCH_FLOOR[1]}' setuptools pybind11 ninja\n"
        "    pip install --no-build-isolation ."
    )
    if torch is None:
        stop(f"the Python that builds ({sys.executable}) has no torch.\n{remedy}")
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < TORCH_FLOOR:
        stop(f"torch {torch.__version__} is too old.\n{remedy}")


def wants_cuda() -> tuple[bool, str]:
    """Return whether to compile the CUDA kernels, and why or why not."""
    forced = os.environ.get("FORCE_CUDA") == "1"
    if os.environ.get("FUSED_GAN_CUDA") == "0":
        if forced:
            stop("FORCE_CUDA=1 and FUSED_GAN_CUDA=0 contradict each other: unset one.")
        return False, "FUSED_GAN_CUDA=0"
    nvcc = CUDA_HOME and Path(CUDA_HOME, "bin", "nvcc").exists()
    missing = [
        word
        for word, present in (
            (f"a torch with CUDA (this is {torch.__version__})", torch.version.cuda),
            ("a CUDA toolkit with nvcc (looked for in CUDA_HOME, in PATH and in /usr/local/cuda)", nvcc),
        )
        if not present
    ]
    if missing and forced:
        stop(f"FORCE_CUDA=1, but there is not {' and not '.join(missing)}.")
    return not missing, "there is not " + " and not ".join(missing) if missing else "toolkit and torch have CUDA"


def find_cutlass() -> Path | None:
    """Return the folder that holds include/cutlass: CUTLASS_PATH, or a folder in the package nvidia-cutlass."""
    if path := os.environ.get("CUTLASS_PATH"):
        if not Path(path, "include", "cutlass", "cutlass.h").exists():
            stop(f"CUTLASS_PATH={path}: expected a folder with include/cutlass/cutlass.h, there is none.")
        return Path(path)
    package = importlib.util.find_spec("cutlass_library")
    source = Path(package.origin).parent / "source" if package and package.origin else None
    return source if source and Path(source, "include", "cutlass", "cutlass.h").exists() else None


def wants_wgmma(cutlass: Path | None) -> tuple[bool, str]:
    """Return whether to compile the products for Hopper's tensor cores, and why or why not."""
    if "9.0a" not in os.environ["TORCH_CUDA_ARCH_LIST"]:
        return False, "TORCH_CUDA_ARCH_LIST does not name 9.0a"
    if cutlass is None:
        return False, "no CUTLASS headers (pip install --no-deps nvidia-cutlass, or set CUTLASS_PATH)"
    return True, str(cutlass)


def cuda_header_flags() -> list[str]:
    """Return the flags for the headers that torch needs and a slim toolkit lacks (cusparse.h, cublas_v2.h).

    They are in pip's packages. The compiler searches these folders last, because they also hold some, but not all,
    headers of the toolkit.
    """
    if Path(CUDA_HOME, "include", "cusparse.h").exists():
        return []
    found = [folder for path in sys.path for folder in glob.glob(os.path.join(path, "nvidia", "cu[0-9]*", "include"))]
    if not found:
        stop(
            f"{CUDA_HOME}/include has no cusparse.h, and no nvidia/cu*/include of pip's packages has either. Install "
            "the toolkit's library headers, or the torch wheel for this CUDA, which brings them."
        )
    return [f"-idirafter{folder}" for folder in found]


class BuildExtension(TorchBuildExtension):
    """torch's build with ninja, configured when it runs, so that metadata can be made where nothing can be compiled."""

    def finalize_options(self) -> None:
        check_torch()
        self.with_cuda, reason = wants_cuda()
        cutlass, self.with_wgmma = None, False
        if self.with_cuda:
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
            cutlass = find_cutlass()
            self.with_wgmma, lacking = wants_wgmma(cutlass)
            if not self.with_wgmma:
                say(f"NO HOPPER TENSOR CORE PRODUCTS (wgmma) in this build: {lacking}.")
        else:
            say(f"CPU-ONLY BUILD, no CUDA kernels: {reason}.")
        self.distribution.ext_modules = extensions(self.with_cuda, cutlass if self.with_wgmma else None)
        super().finalize_options()
        self.extensions[-1].library_dirs.append(str(Path(self.build_lib, "fused_gan")))

    def run(self) -> None:
        self.write_facts(Path(self.build_lib) / "fused_gan")
        super().run()
        if self.inplace:
            self.write_facts(ROOT / "fused_gan")

    def build_extension(self, ext: Extension) -> None:
        """Compile the products for Hopper for Hopper alone, then build the extension.

        For each other architecture the compiler would read CUTLASS's headers once more, a minute per file, for empty
        kernels.
        """
        if ext.name == OPERATORS and self.with_wgmma:
            objects = self.compiler.compile(
                HOPPER_SOURCES,
                output_dir=str(Path(self.build_temp, "sm_90a")),
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                extra_postargs={"cxx": CXX_FLAGS, "nvcc": [*NVCC_FLAGS, *HOPPER_FLAGS]},
            )
            ext.extra_objects = [*ext.extra_objects, *objects]
        super().build_extension(ext)

    def get_ext_filename(self, ext_name: str) -> str:
        # The library does not use Python, so its name is without the Python version.
        if ext_name.endswith("libfused_gan"):
            return os.path.join(*ext_name.split(".")) + ".so"
        return super().get_ext_filename(ext_name)

    def write_facts(self, folder: Path) -> None:
        """Write build.json beside the library. `import fused_gan` compares it before it loads the library."""
        facts = {
            "torch": torch.__version__,
            "cuda": torch.version.cuda if self.with_cuda else None,
            "cuda_architectures": os.environ["TORCH_CUDA_ARCH_LIST"] if self.with_cuda else None,
            "wgmma": self.with_wgmma,
            "compiler": os.environ.get("CXX", "c++"),
            "cxx_flags": " ".join(CXX_FLAGS),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "build.json").write_text(json.dumps(facts, indent=2) + "\n")


def extensions(with_cuda: bool, cutlass: Path | None) -> list[Extension]:
    """Return the operator library, with the products for Hopper if there is `cutlass`, and the module linked to it."""
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]  # macOS builds of torch use their own thread pool
    sources = [
        str(path.relative_to(ROOT))
        for pattern in ("*.cpp", "cpu/*.cpp", *(("cuda/*.cpp", "cuda/*.cu") if with_cuda else ()))
        for path in sorted((ROOT / "csrc").glob(pattern))
        if path.name != "python.cpp" and not path.name.startswith("wgmma_")
    ]
    macros = [("FUSED_GAN_WITH_CUDA", None)] if with_cuda else []
    if cutlass:
        macros.append(("FUSED_GAN_WITH_WGMMA", None))
    operators = (CUDAExtension if with_cuda else CppExtension)(
        OPERATORS,
        sources,
        include_dirs=[str(cutlass / "include"), str(cutlass / "tools/util/include")] if cutlass else [],
        define_macros=macros,
        extra_compile_args={
            "cxx": CXX_FLAGS + openmp + (cuda_header_flags() if with_cuda else []),
            "nvcc": NVCC_FLAGS,
        },
        extra_link_args=openmp,
        py_limited_api=True,  # does not link libtorch_python
    )
    module = CppExtension(
        "fused_gan._C",
        ["csrc/python.cpp"],
        include_dirs=[
            *([pybind11.get_include()] if pybind11 else []),
            *([str(Path(CUDA_HOME, "include"))] if with_cuda else []),
        ],
        define_macros=macros,
        extra_compile_args=CXX_FLAGS + openmp,
        libraries=["fused_gan"],
        runtime_library_dirs=["$ORIGIN"],
    )
    return [operators, module]


def wanted_torch() -> str:
    """Return the requirement of torch: exactly the one that this build is for, as no other can load it.

    pip then cannot replace it while it installs an extra. Without torch, as for a source distribution, any that can
    build will do.
    """
    if torch is None:
        return f"torch>={TORCH_FLOOR[0]}.{TORCH_FLOOR[1]}"
    return f"torch=={torch.__version__.partition('+')[0]}"  # which +cpu and +cu130 satisfy


setup(
    install_requires=[wanted_torch()],
    # The names tell setuptools that the wheel is not pure; BuildExtension fills in the rest.
    ext_modules=[Extension(OPERATORS, []), Extension("fused_gan._C", [])],
    cmdclass={"build_ext": BuildExtension},
)
