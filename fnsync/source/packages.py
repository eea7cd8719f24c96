"""The packages behind imports that nobody declared.

Functions are written for a server that has many packages installed, and import them without a word. The table has those
that Open WebUI 0.12.4 installs for itself (what its wheel requires, and small ones that come with them) and others that
public functions import, but for what is in every environment here. What weighs gigabytes is left out too: whoever needs
torch or transformers says so.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fnsync.source.imports import Imported

#: Module -> distribution. Of a namespace that many share, the longer name counts.
PACKAGES = {
    "PIL": "pillow",
    "aiocache": "aiocache",
    "aiofiles": "aiofiles",
    "aiosqlite": "aiosqlite",
    "anthropic": "anthropic",
    "argon2": "argon2-cffi",
    "arxiv": "arxiv",
    "authlib": "authlib",
    "azure.ai.documentintelligence": "azure-ai-documentintelligence",
    "azure.identity": "azure-identity",
    "azure.storage.blob": "azure-storage-blob",
    "bcrypt": "bcrypt",
    "black": "black",
    "bleach": "bleach",
    "boto3": "boto3",
    "botocore": "botocore",
    "brotli": "brotli",
    "bs4": "beautifulsoup4",
    "cachetools": "cachetools",
    "chardet": "chardet",
    "chromadb": "chromadb",
    "click": "click",
    "cohere": "cohere",
    "cryptography": "cryptography",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "ddgs": "ddgs",
    "deepl": "deepl",
    "docx": "python-docx",
    "docx2txt": "docx2txt",
    "dotenv": "python-dotenv",
    "duckduckgo_search": "duckduckgo-search",
    "elasticsearch": "elasticsearch",
    "fake_useragent": "fake-useragent",
    "feedparser": "feedparser",
    "firecrawl": "firecrawl-py",
    "fitz": "pymupdf",
    "ftfy": "ftfy",
    "github": "pygithub",
    "google.cloud.storage": "google-cloud-storage",
    "google.genai": "google-genai",
    "google.generativeai": "google-generativeai",
    "googleapiclient": "google-api-python-client",
    "groq": "groq",
    "html2text": "html2text",
    "httpx_sse": "httpx-sse",
    "icalendar": "icalendar",
    "itsdangerous": "itsdangerous",
    "jinja2": "jinja2",
    "joserfc": "joserfc",
    "jsonschema": "jsonschema",
    "jwt": "pyjwt[crypto]",
    "langchain_classic": "langchain-classic",
    "langchain_community": "langchain-community",
    "langchain_core": "langchain-core",
    "langchain_openai": "langchain-openai",
    "langchain_text_splitters": "langchain-text-splitters",
    "langdetect": "langdetect",
    "langfuse": "langfuse",
    "langgraph": "langgraph",
    "langgraph_sdk": "langgraph-sdk",
    "ldap3": "ldap3",
    "litellm": "litellm",
    "loguru": "loguru",
    "lxml": "lxml",
    "markdown": "markdown",
    "markdownify": "markdownify",
    "matplotlib": "matplotlib",
    "mcp": "mcp",
    "mimeparse": "python-mimeparse",
    "mistralai": "mistralai",
    "msoffcrypto": "msoffcrypto-tool",
    "multipart": "python-multipart",
    "networkx": "networkx",
    "nltk": "nltk",
    "numpy": "numpy",
    "ollama": "ollama",
    "openai": "openai",
    "openpyxl": "openpyxl",
    "opensearchpy": "opensearch-py",
    "orjson": "orjson",
    "packaging": "packaging",
    "pandas": "pandas",
    "pdfplumber": "pdfplumber",
    "pgvector": "pgvector",
    "pint": "pint",
    "pptx": "python-pptx",
    "psutil": "psutil",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pyarrow": "pyarrow",
    "pycrdt": "pycrdt",
    "pydantic_settings": "pydantic-settings",
    "pydub": "pydub",
    "pymilvus": "pymilvus",
    "pymongo": "pymongo",
    "pymysql": "pymysql",
    "pyotp": "pyotp",
    "pypandoc": "pypandoc",
    "pypdf": "pypdf",
    "pytz": "pytz",
    "pyxlsb": "pyxlsb",
    "qdrant_client": "qdrant-client",
    "qrcode": "qrcode",
    "rank_bm25": "rank-bm25",
    "redis": "redis",
    "regex": "regex",
    "replicate": "replicate",
    "reportlab": "reportlab",
    "rich": "rich",
    "scipy": "scipy",
    "sentencepiece": "sentencepiece",
    "sklearn": "scikit-learn",
    "socketio": "python-socketio",
    "soundfile": "soundfile",
    "sqlalchemy": "sqlalchemy",
    "sympy": "sympy",
    "tabulate": "tabulate",
    "tavily": "tavily-python",
    "tenacity": "tenacity",
    "tiktoken": "tiktoken",
    "together": "together",
    "tqdm": "tqdm",
    "uvicorn": "uvicorn",
    "validators": "validators",
    "websockets": "websockets",
    "wikipedia": "wikipedia",
    "xlrd": "xlrd",
    "xmltodict": "xmltodict",
    "xxhash": "xxhash",
    "yaml": "pyyaml",
    "yfinance": "yfinance",
    "youtube_transcript_api": "youtube-transcript-api",
}


def inferred(imported: Iterable[Imported], own: Collection[str], declared: Collection[str]) -> tuple[str, ...]:
    """The requirements, by name, that imports ask for and nobody declared. `own`: modules of the function's files.

    An import that may fail, or that waits until it is called, counts as well: it would find the package in the peer.
    """
    known = {name for entry in declared if (name := _name(entry)) is not None}
    found = (distribution for item in imported for distribution in _packages(item, own))
    return tuple(sorted({entry for entry in found if _name(entry) not in known}))


def _packages(item: Imported, own: Collection[str]) -> Iterator[str]:
    if item.level or item.top in own or item.top in sys.stdlib_module_names:
        return
    for name in (item.module, *(f"{item.module}.{name}" for name in item.names)):
        found = next((PACKAGES[part] for part in _upwards(name) if part in PACKAGES), None)
        if found is not None:
            yield found


def _upwards(name: str) -> Iterator[str]:
    """A dotted name, and those of the packages that it lies in."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _name(entry: str) -> str | None:
    """The name of a requirement; None for an address without one."""
    try:
        return canonicalize_name(Requirement(entry).name)
    except InvalidRequirement:
        return None
