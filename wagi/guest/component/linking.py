"""How the core instances of a component are linked: what each import is in the end.

A shim is known by its table: a module that only fills tables, and possibly calls a function, fills
it. The functions of the shim then have to do nothing but call functions in that table.
"""

from __future__ import annotations

from collections.abc import Iterator

from wagi.guest.binary import MalformedModuleError
from wagi.guest.component.core_module import CoreImport, CoreModule
from wagi.guest.component.errors import unknown_structure
from wagi.guest.component.graph import Component
from wagi.guest.component.items import CoreExport, CoreItem
from wagi.guest.component.reader import Budget, Sort


class Linking:
    """The core instances of a component.

    Attributes:
        parts: The indices of the instances that are neither shims nor fixups.
        initializers: The functions that the fixups call, in order.
    """

    def __init__(self, data: bytes, component: Component) -> None:
        """Follow shims and fixups.

        Args:
            data: The file.
            component: The component in it.

        Raises:
            MalformedModuleError: A core module or a link is not valid.
            UnsupportedComponentError: The structure is unknown.
        """
        self._budget = Budget()
        self.initializers: list[CoreExport] = []
        self._instances = component.core_instances
        self._modules = [CoreModule(data, code, self._budget) for code in component.modules]
        self._tables: dict[int, dict[int, CoreItem]] = {}
        self._shims: dict[int, dict[str, int]] = {}
        initializers: list[CoreItem] = []
        fixups = {
            index
            for index, instance in enumerate(self._instances)
            if instance.module is not None and self._modules[instance.module].is_fixups
        }
        for index in sorted(fixups):
            initializers += self._link_fixups(index)
        self.parts = [
            index
            for index, instance in enumerate(self._instances)
            if instance.module is not None and index not in fixups and index not in self._shims
        ]
        for item in map(self.resolve, initializers):
            if not isinstance(item, CoreExport):
                raise unknown_structure("start function that is not one of its own")
            self.initializers.append(item)

    def module(self, index: int) -> CoreModule:
        """Return the module of a core instance."""
        number = self._instances[index].module
        if number is None:
            raise unknown_structure("instance without a module")
        return self._modules[number]

    def imports(self, index: int) -> Iterator[tuple[CoreImport, CoreItem]]:
        """Iterate over the imports of a core instance, with what they are in the end."""
        for item in self.module(index).imports:
            self._budget.spend(1)
            yield item, self.resolve(self._argument(index, item))

    def resolve(self, item: CoreItem) -> CoreItem:
        """Follow an item through shims."""
        for _ in range(len(self._shims) + 1):
            if not isinstance(item, CoreExport):
                return item
            self._budget.spend(1)
            element = self._shims.get(item.instance, {}).get(item.name)
            if element is None:
                return self._checked(item)
            table = self._tables[item.instance]
            if element not in table:
                raise unknown_structure("element of a table that is not set")
            item = table[element]
        raise unknown_structure("circle of functions")

    def _argument(self, index: int, item: CoreImport) -> CoreItem:
        source = self._instances[index].arguments.get(item.module)
        if source is None:
            raise MalformedModuleError(f"nothing is linked to the imports from {item.module!r}")
        instance = self._instances[source]
        if instance.module is not None:
            return self._checked(CoreExport(source, item.name, item.sort))
        sort, found = instance.exports.get(item.name, (None, None))
        if found is None or sort is not item.sort:
            raise _missing(item.name)
        return found

    def _checked(self, item: CoreExport) -> CoreExport:
        sort, _ = self.module(item.instance).exports.get(item.name, (None, 0))
        if sort is not item.sort:
            raise _missing(item.name)
        return item

    def _link_fixups(self, index: int) -> list[CoreItem]:
        """Follow a module of fixups. Returns: The functions that it calls."""
        module = self.module(index)
        self._budget.spend(len(module.imports))
        tables = [item for item in module.imports if item.sort is Sort.CORE_TABLE]
        elements = module.elements()
        if elements:
            if len(tables) != 1:
                raise unknown_structure("fixups of several tables")
            shim = self._link_shim(self._argument(index, tables[0]))
            self._tables[shim] = {
                element: self._argument(index, function) for element, function in elements.items()
            }
        start = module.start()
        return [] if start is None else [self._argument(index, start)]

    def _link_shim(self, table: CoreItem) -> int:
        """Check that a table is that of a shim. Returns: The index of the shim."""
        if not isinstance(table, CoreExport) or table.instance in self._tables:
            raise unknown_structure("table that is filled twice")
        trampolines = self.module(table.instance).trampolines(table.name)
        if trampolines is None:
            raise unknown_structure("table of functions that is not a shim")
        self._shims[table.instance] = trampolines
        return table.instance


def _missing(name: str) -> MalformedModuleError:
    return MalformedModuleError(f"an import is linked to {name!r}, which does not exist")
