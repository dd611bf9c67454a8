def part() -> str:
    return "a part of the package"
