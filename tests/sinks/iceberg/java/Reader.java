import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.BaseTable;
import org.apache.iceberg.StaticTableOperations;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.hadoop.HadoopFileIO;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.types.Types;

/** Prints the rows of the table whose metadata file is named, sorted, a line each: "column=text" joined by tabs. */
class Reader {
    public static void main(String[] arguments) throws Exception {
        HadoopFileIO io = new HadoopFileIO(new Configuration());
        BaseTable table = new BaseTable(new StaticTableOperations(arguments[0], io), "table");
        List<String> lines = new ArrayList<>();
        try (CloseableIterable<Record> rows = IcebergGenerics.read(table).build()) {
            for (Record row : rows) {
                List<String> cells = new ArrayList<>();
                // Not the row's own columns: with deletes it also has its position.
                for (Types.NestedField column : table.schema().columns()) {
                    cells.add(column.name() + "=" + row.getField(column.name()));
                }
                lines.add(String.join("\t", cells));
            }
        }
        Collections.sort(lines);
        System.out.println(String.join("\n", lines));
    }
}
